def test_keeps_the_contract(three_nets):
    assert three_nets.summary["test_accuracy"] > 0.9
