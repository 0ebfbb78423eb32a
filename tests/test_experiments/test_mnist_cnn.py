def test_keeps_the_contract(three_nets):
    assert three_nets.summary["test_accuracy"] > 0.9


def test_resumes_bit_for_bit(three_nets, interrupted_and_resumed, without_seconds):
    again = interrupted_and_resumed("mnist_cnn", "--num-seeds", 3)
    assert again.rows == three_nets.rows
    assert without_seconds(again.summary) == without_seconds(three_nets.summary)
