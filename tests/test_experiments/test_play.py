"""The page to play with, in a real browser: it computes what JAX computes, and answers to hands."""

import base64
import functools
import re
import time
from pathlib import Path

import browser
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import experiments
from experiments import play
from jaxnn import cnn, deck, descent, models
from jaxnn.lab import images
from jaxnn.lab.config import BadUsageError

PICTURES = sorted((Path(__file__).parents[2] / "docs" / "digits").iterdir())
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PREPARE = """
globalThis.testNet = JSON.parse(document.getElementById("net").textContent).layers.map(
  ({kernel, scale, shift}) => ({kernel: decode(kernel), scale: decode(scale), shift: decode(shift)}));
globalThis.prints = () => [...document.querySelectorAll("canvas")].map((canvas) => [canvas.id, canvas.toDataURL()]);
null
"""


@pytest.fixture(scope="module")
def toy(toy_run, three_nets):
    return toy_run("play", "--run", three_nets.folder)


@pytest.fixture(scope="module")
def page(toy, tmp_path_factory):
    with browser.open_page(toy.folder / "page.html", tmp_path_factory.mktemp("profile")) as page:
        page.run(PREPARE)
        yield page


@pytest.fixture(scope="module")
def folded(three_nets):
    """The layers of the page's net, with the numbers that the page has."""
    net = experiments.load(three_nets.folder, seed=3).nets
    return play.round_to_float16(play.fold(net.params, net.state))


@functools.cache
def digits():
    """The pictures as a net sees them, uint8 [10, 28, 28, 1]."""
    return np.stack([images.read_digit(path)[1] for path in PICTURES])


def flat(array):
    return np.asarray(array, float).ravel().tolist()


def reads(page):
    """The digit that the page says it reads."""
    return int(re.search(r"The net reads (\d)", page.text("#reading")).group(1))


# What it computes.


def test_float16_costs_no_accuracy(toy):
    assert toy.summary["accuracy_float16"] == pytest.approx(toy.summary["accuracy_float32"], abs=0.002)
    assert 0 < toy.summary["largest_logit_difference"] < 0.05
    assert toy.summary["page_bytes"] == (toy.folder / "page.html").stat().st_size < 1_500_000


@pytest.mark.parametrize("batch_norm", [True, False])
def test_folded_layers_are_the_net(batch_norm):
    model = cnn.from_flax(cnn.CNN((3, 4), hidden_size=8, batch_norm=batch_norm))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 28, 28, 1), np.uint8)
    params, state = model.init(jax.random.key(0), pixels)
    params = jax.tree.map(lambda leaf: leaf + rng.normal(0, 2, leaf.shape).astype(np.float32), params)  # scales < 0 too
    state = jax.tree.map(lambda leaf: leaf + rng.uniform(0, 3, leaf.shape).astype(np.float32), state)
    expected, _ = jax.jit(model.apply)(params, state, pixels)
    np.testing.assert_allclose(play.read(play.fold(params, state), pixels), expected, rtol=1e-4, atol=1e-3)


def test_refuses_nets_that_read_no_digits(net_of_pictures):
    with pytest.raises(BadUsageError, match="so its nets cannot read digits"):
        play.main(play.Config(run=net_of_pictures.folder), None)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_pictures_become_the_digits_that_jaxnn_makes_of_them(page, path):
    grey = np.round(255 * images.read_picture(path)).astype(np.uint8)
    script = """(height, width, grey) => Array.from(likeMnist({ height, width,
        values: Float64Array.from(atob(grey), (letter) => letter.charCodeAt(0) / 255) }))"""
    found = page.call(script, *grey.shape, base64.b64encode(grey.tobytes()).decode())
    difference = np.abs(np.reshape(found, (28, 28, 1)) - images.read_digit(path)[1])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_an_empty_picture_is_no_digit(page):
    assert page.run("likeMnist({ height: 9, width: 7, values: new Float64Array(63).fill(0.8) })") is None


def test_logits_are_those_of_jax(page, folded):
    script = "(digits) => digits.map((pixels) => Array.from(readDigit(testNet, pixels).logits))"
    found = page.call(script, [flat(digit) for digit in digits()])
    np.testing.assert_allclose(found, play.read(folded, digits()), atol=1e-3)


def test_reasons_are_those_of_jax(page, folded):
    def log_prob(pixels):
        return jax.nn.log_softmax(play.read(folded, pixels[None]))[0].max()

    script = """(pixels) => { const seen = readDigit(testNet, pixels);
        return [Array.from(inkTimesGradient(testNet, seen)), Array.from([...occlusion(testNet, seen)].at(-1))]; }"""
    digit = jnp.asarray(digits()[3], float)
    gradient, falls = page.call(script, flat(digit))
    expected = jax.jit(jax.grad(log_prob))(digit) * digit
    np.testing.assert_allclose(gradient, flat(expected), atol=1e-3)
    log_probs = jax.nn.log_softmax(play.read(folded, digit[None]))[0]
    for row, column in ((0, 0), (8, 10), (13, 9), (21, 21)):
        hidden = digit.at[row : row + 7, column : column + 7].set(0)
        now = jax.nn.log_softmax(play.read(folded, hidden[None]))[0, log_probs.argmax()]
        assert falls[(row + 3) * 28 + column + 3] == pytest.approx(float(log_probs.max() - now), abs=1e-3)


@pytest.mark.parametrize(
    ("name", "f"), [("tanh", jnp.tanh), ("ReLU", jax.nn.relu), ("logistic", jax.nn.sigmoid), ("identity", lambda v: v)]
)
def test_gradients_of_the_small_net_are_those_of_jax(page, x64, name, f):
    rng = np.random.default_rng(0)
    inputs, labels = jnp.array(rng.normal(size=(7, 2))), rng.integers(0, 2, 7)
    model = models.mlp([4, 3], 1, activation=f)
    params = jax.tree.map(lambda leaf: jnp.array(rng.normal(size=leaf.shape)), model.init(jax.random.key(0), inputs)[0])

    def loss_fn(params):
        logits = model.apply(params, {}, inputs)[0][:, 0]
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean()

    loss, gradients = jax.jit(jax.value_and_grad(loss_fn))(params)
    sizes = ({"numInputs": i, "numOutputs": o} for i, o in ((2, 4), (4, 3), (3, 1)))
    net = [size | jax.tree.map(flat, layer) for size, layer in zip(sizes, params, strict=True)]
    script = """(net, inputs, labels, name) => {
        const { loss, gradients } = lossAndGradients(net, Float64Array.from(inputs), labels, ACTIVATIONS[name]);
        return [loss, gradients.map(({ weight, bias }) => [Array.from(weight), Array.from(bias)])]; }"""
    found, found_gradients = page.call(script, net, flat(inputs), labels.tolist(), name)
    assert found == pytest.approx(float(loss), rel=1e-10)
    for (weight, bias), expected in zip(found_gradients, gradients, strict=True):
        np.testing.assert_allclose(weight, flat(expected["weight"]), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(bias, flat(expected["bias"]), rtol=1e-8, atol=1e-12)


def test_the_small_net_steps_as_optax_does(page):
    script = """(name) => { const net = [{ weight: Float64Array.of(1, -2), bias: Float64Array.of(0.5) }];
        const step = { adam, gradientDescent }[name](net);
        for (const g of [[3, -1, 0.1], [1, 2, 0.2], [-2, 0, 0.3]])
            step([{ weight: g.slice(0, 2), bias: g.slice(2) }], 0.1);
        return [...net[0].weight, ...net[0].bias]; }"""
    for name, optimizer in (("adam", optax.adam(0.1)), ("gradientDescent", optax.sgd(0.1))):
        params = jnp.array([1, -2, 0.5])
        state = optimizer.init(params)
        for gradient in ([3, -1, 0.1], [1, 2, 0.2], [-2, 0, 0.3]):
            updates, state = optimizer.update(jnp.array(gradient), state)
            params = params + updates
        np.testing.assert_allclose(page.call(script, name), params, atol=1e-5)


def test_the_bowl_takes_the_steps_of_the_deck(page, x64):
    script = "(rate) => { const { path, end } = descendBowl([3, 3], rate); return [path.length - 1, end]; }"
    assert page.call(script, 0.001) == [5497, "converged"]
    assert page.call(script, 0.25)[1] == "neither"
    assert page.call(script, 0.251)[1] == "diverged"
    x0 = jnp.array([3.0, 3.0])
    found = descent.gradient_descent(
        lambda x: 4 * x[0] ** 2 + x[1] ** 2, x0, learning_rate=0.2, tol=1e-7, max_steps=999
    )
    assert page.call(script, 0.2) == [found.num_steps, "converged"]


def test_the_sliders_begin_with_the_weights_of_the_deck(page):
    hidden, output = deck.PRINTED_SURFACE
    for number in range(3):
        expected = [*hidden["weight"][:, number], hidden["bias"][number], output["weight"][number, 0]]
        ids = [f"unit-{number + 1}-{name}" for name in ("w1", "w2", "b", "v")]
        found = page.call("(...ids) => ids.map((id) => Number(document.getElementById(id).value))", *ids)
        assert found == pytest.approx(expected)
    assert "from −6.80 to 6.71" in page.text("#units-reading")


# How it answers to hands.


def wait_for(page, selector, pattern):
    until = time.monotonic() + 20
    while not re.search(pattern, text := page.text(selector)):
        assert time.monotonic() < until, f"{selector} still says: {text}"


def test_opened_pictures_are_read_as_jax_reads_them(page, folded):
    expected = play.read(folded, digits()).argmax(axis=1)
    right = 0
    for path, digit in zip(PICTURES, expected, strict=True):
        page.click("#clear")
        assert "empty paper" in page.text("#reading")
        page.choose_files("#picture", path)
        wait_for(page, "#reading", "The net reads")
        assert reads(page) == digit, path
        right += NAMES[reads(page)] == path.stem.partition("_")[0]
    assert right >= 9  # a net trained for seconds may miss one


def test_what_is_no_picture_is_refused_in_a_sentence(page):
    page.choose_files("#picture", Path(__file__))
    wait_for(page, "#reading", r"test_play\.py is no picture")


def test_examples_are_read_right(page):
    read = []
    for digit in range(10):
        page.click(f"#examples button:nth-child({digit + 1})")
        read.append(reads(page))
    assert sum(np.array(read) == np.arange(10)) >= 9, read


def pixels_of_paper(page):
    return np.reshape(page.run("Array.from(likeMnist(readGrey(document.getElementById('paper'))))"), (28, 28))


@pytest.mark.parametrize("hand", ["mouse", "keys"])
def test_a_drawn_stroke_is_read(page, folded, hand):
    page.click("#clear")
    if hand == "mouse":
        page.drag("#paper", [(0.5, 0.2), (0.5, 0.5), (0.5, 0.8)])
    else:
        page.run("document.getElementById('paper').focus()")
        page.press(" ", *["ArrowDown"] * 15, " ", "ArrowLeft")
    pixels = pixels_of_paper(page)
    drawn = pixels > 128
    assert drawn.any(axis=1).sum() == 20
    assert drawn.any(axis=0).sum() <= 4
    assert reads(page) == play.read(folded, pixels[None, ..., None].astype(np.uint8))[0].argmax()
    assert "%" in page.text("#probabilities li.best")


DIGIT = {"maps-1", "maps-2", "dense", "sees", "reason"}
CONTROLS = [  # what is done, the canvases that must change, those that may
    (lambda page: page.click("#examples button:nth-child(6)"), DIGIT | {"paper"}, {"one"}),
    (lambda page: page.click("input[value=occlusion]"), {"reason"}, {}),
    (lambda page: page.click("input[value=gradient]"), {"reason"}, {}),
    (lambda page: page.pull("kernel-1", 5), {"maps-1", "one-1-2", "one-1-3"}, {"one-1"}),
    (lambda page: page.pull("kernel-2", 3), {"maps-2", "one-2-2", "one-2-3"}, {"one-2"}),
    (lambda page: page.pull("neuron-w1", 3), {"neuron-surface", "neuron-above"}, {}),
    (lambda page: page.pull("neuron-w2", -3), {"neuron-surface", "neuron-above"}, {}),
    (lambda page: page.pull("neuron-b", 4), {"neuron-surface", "neuron-above"}, {}),
    (lambda page: page.pull("neuron-threshold", 0.9), {"neuron-surface", "neuron-above"}, {}),
    (lambda page: page.pull("neuron-turn", 10), {"neuron-surface"}, {}),
    (lambda page: page.click("input[value=linear]"), {"neuron-surface", "neuron-above"}, {}),
    *[
        (lambda page, name=name: page.pull(f"unit-2-{name}", 1), {"unit-2", "units-surface", "units-above"}, {"unit-"})
        for name in ("w1", "w2", "b", "v")
    ],
    (lambda page: page.pull("units-threshold", 2), {"units-surface", "units-above"}, {}),
    (lambda page: page.pull("units-turn", 10), {"units-surface"}, {}),
    (lambda page: page.click("input[name=units-activation][value=identity]"), {"unit-1", "units-above"}, {"unit"}),
    (lambda page: page.click("#units-deck"), {"unit-2", "units-surface", "units-above"}, {"unit"}),
    (lambda page: page.pull("descent-rate", 0.26), {"bowl", "heights"}, {}),
    (lambda page: page.pull("descent-x1", -2), {"bowl", "heights"}, {}),
    (lambda page: page.pull("descent-x2", 1), {"bowl", "heights"}, {}),
    (lambda page: page.drag("#bowl", [(0.1, 0.1), (0.3, 0.9)]), {"bowl", "heights"}, {}),
    (lambda page: page.click("#descent-deck"), {"bowl", "heights"}, {}),
    (lambda page: page.click("#descent-edge"), {"bowl", "heights"}, {}),
    (lambda page: page.click("#learn-100"), {"plane", "neurons", "losses"}, {}),
    (lambda page: page.pull("num-layers", 3), {"plane", "neurons", "losses"}, {}),
    (lambda page: page.pull("num-neurons", 5), {"plane", "neurons"}, {}),
    (lambda page: page.click("#learn-anew"), {"plane", "neurons"}, {}),
    (lambda page: page.click("input[name=activation][value=ReLU]"), {"plane", "neurons"}, {}),
    (lambda page: page.click("input[value=own]"), {"plane"}, {}),
]


@pytest.mark.parametrize("number", range(len(CONTROLS)))
def test_each_control_moves_what_it_should(page, number):
    act, must, may = CONTROLS[number]
    page.text("#reading")
    before = page.run("prints()")
    act(page)
    page.text("#reading")
    after = page.run("prints()")
    changed = {name for (name, old), (_, new) in zip(before, after, strict=True) if old != new}
    assert must <= changed
    assert all(name in must or name.startswith(tuple(may)) for name in changed), changed


def test_a_rate_from_a_quarter_on_does_not_arrive(page):
    for rate, words in ((0.249, "It arrives"), (0.25, "swings from side to side"), (0.3, "It diverges")):
        page.pull("descent-rate", rate)
        assert words in page.text("#descent-reading")
    page.click("#descent-deck")
    assert "after 5,497 steps" in page.text("#descent-reading")


def learn(page, activation):
    page.click("input[name=points][value=spirals]")
    page.click(f"input[name=activation][value={activation}]")
    for slider, value in (("num-layers", 2), ("num-neurons", 8), ("learning-rate", -1.7)):
        page.pull(slider, value)
    for _ in range(5):
        page.click("#learn-100")
    return page.text("#learning-reading")


def test_layers_and_an_activation_function_part_the_spirals(page):
    assert "Step 500: " in (said := learn(page, "tanh"))
    assert "120 of 120 points right" in said
    assert int(re.search(r"(\d+) of 120", learn(page, "identity")).group(1)) < 90


def test_learning_goes_on_until_it_is_stopped(page):
    page.click("#learn-anew")
    page.click("#learn")
    wait_for(page, "#learning-reading", r"Step [1-9]")
    page.click("#learn")
    stopped = page.text("#learning-reading")
    assert page.text("#learning-reading") == stopped
    assert page.text("#learn") == "Learn"


def test_a_net_learns_ones_own_points(page):
    page.click("input[name=points][value=own]")
    page.drag("#plane", [(0.2, 0.2)])
    page.click("input[name=own][value='0']")
    page.run("document.getElementById('plane').focus()")
    page.press(*["ArrowRight"] * 5, " ")
    page.click("#learn-100")
    assert "2 of 2 points right" in page.text("#learning-reading")
    page.click("#own-clear")
    assert "Put some points" in page.text("#learning-reading")


# Who can use it, and what leaves it.


def test_everything_that_one_can_touch_or_see_has_a_name(page):
    nameless = page.run("""[...document.querySelectorAll("button, input, canvas, a")].filter((e) => {
        const by = (e.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id));
        const label = e.getAttribute("aria-label") || e.innerText || e.labels?.[0]?.innerText || by[0]?.innerText;
        return !label?.trim() || (e.tagName === "CANVAS" && !e.getAttribute("role"));
    }).map((e) => e.outerHTML)""")
    assert nameless == []
    page.drag("#bowl", [(0.2, 0.2)])
    page.click("#descent-deck")
    wait_for(page, "#said", "after 5,497 steps")  # what a screen reader says


@pytest.mark.parametrize(("width", "dark"), [(1100, False), (1100, True), (360, False), (360, True)])
def test_it_fits_the_window_and_the_colours(page, width, dark):
    page.look(width=width, dark=dark)
    page.text("#reading")
    assert page.run("document.documentElement.scrollWidth") <= width
    red, green, blue = map(int, re.findall(r"\d+", page.run("getComputedStyle(document.body).backgroundColor")))
    assert (red + green + blue < 200) == dark
    columns = page.run("getComputedStyle(document.querySelector('.surface')).gridTemplateColumns").split()
    assert len(columns) == (1 if width < 700 else 3)


def test_nothing_leaves_the_page_and_nothing_goes_wrong(page, toy):
    assert page.requests == [(toy.folder / "page.html").resolve().as_uri()]
    assert page.errors == []
    denied = page.run("fetch('https://example.org').then(() => 'sent', () => 'refused')")
    assert denied == "refused"
    page.text("#reading")
    assert any("Content Security Policy" in error for error in page.errors)  # it was the page that refused
    assert not any("example.org" in url for url in page.requests)
