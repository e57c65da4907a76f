"""A message of the page is answered or comes back into its field, whatever comes between."""

from typing import Any

from support.pages import MESSAGE, answer, give_picture, problem_of


def test_web_page_refused_message_comes_back_into_its_field(tab: Any) -> None:
    give_picture(tab)
    tab.fill(MESSAGE, "Norah Jones plays in Rotterdam")
    tab.evaluate("picture = 'x'.repeat(30)")  # a name that the server never gave
    tab.press(MESSAGE, "Enter")
    tab.wait_for_selector("#np-say.bad")
    assert "no longer stored" in problem_of(tab)
    assert tab.input_value(MESSAGE) == "Norah Jones plays in Rotterdam"


ANSWERS = "**/queue/data*"
"""Where the page's framework fetches what a message is answered."""


def test_web_page_message_before_answer_is_complete_waits_in_its_field(tab: Any) -> None:
    held: list[Any] = []
    tab.route(ANSWERS, lambda route: held.append(route))
    tab.fill(MESSAGE, "Norah Jones plays in Rotterdam")
    tab.press(MESSAGE, "Enter")
    tab.fill(MESSAGE, "as CSV")
    tab.press(MESSAGE, "Enter")
    assert "still coming" in tab.locator("#np-say:not(.bad)").inner_text()
    let_go(tab, held)
    suggestion = answer(tab, 1).get_by_role("button", name="as CSV")
    assert not tab.locator("#np-say").is_visible() and tab.input_value(MESSAGE) == "as CSV"
    tab.fill(MESSAGE, "Seen in Oslo")
    suggestion.click()
    assert answer(tab, 2).locator("td").count()
    assert tab.input_value(MESSAGE) == "Seen in Oslo", "a suggestion leaves the draft"


HOLD_THE_LAST_EVENT = """
    const ask = window.fetch;
    window.fetch = async (...given) => {
        const answer = await ask(...given);
        if (!String(given[0]?.url ?? given[0]).includes("/queue/data")) return answer;
        const held = new TransformStream({ async transform(text, out) {
            for (const event of text.split(/(?<=\\n\\n)/)) {
                if (window.holding && event.includes("process_completed")) {
                    await new Promise((done) => { window.letGo = done; });
                    delete window.letGo;
                }
                out.enqueue(event);
            }
        } });
        const through = [new TextDecoderStream(), held, new TextEncoderStream()];
        return new Response(through.reduce((body, one) => body.pipeThrough(one), answer.body), answer);
    };
"""
"""While `holding`, holds back, until `letGo`, what tells the page's framework that an answer has ended."""


def test_web_page_message_before_framework_ends_the_answer_is_not_lost(tab: Any) -> None:
    tab.add_init_script(HOLD_THE_LAST_EVENT)  # before the framework's first stream, which it keeps for later answers
    tab.route("**/page/answering", lambda route: route.fulfill(json={"answering": True}))
    tab.reload()
    tab.wait_for_selector("#np-past .np-empty")
    tab.evaluate("window.holding = true")
    for turn, text in enumerate(["Norah Jones plays in Rotterdam", "as CSV"], 1):
        tab.fill(MESSAGE, text)
        tab.press(MESSAGE, "Enter")
        tab.wait_for_function("window.letGo && document.querySelectorAll('#np-now [data-end]').length")
        tab.fill(MESSAGE, "as CSV")
        tab.press(MESSAGE, "Enter")
        assert "still coming" in tab.locator("#np-say:not(.bad)").inner_text()
        assert tab.input_value(MESSAGE) == "as CSV"
        tab.evaluate("window.letGo()")
        assert answer(tab, turn).locator("a.mention, td").count()
    assert tab.evaluate("window.holding"), "the page was not loaded again"


SEND_AT_ONCE = """new MutationObserver((changes, observer) => {
    const field = document.getElementById("np-text");
    if (!field) return;
    observer.disconnect();
    window.early = !document.getElementById("np-send");
    field.value = "Norah Jones plays in Rotterdam";
    field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
}).observe(document, { childList: true, subtree: true });"""
"""Writes a message and presses Enter in the moment in which the field comes."""


def test_web_page_message_before_framework_is_ready_is_answered(tab: Any) -> None:
    tab.add_init_script(SEND_AT_ONCE)
    tab.reload()
    assert answer(tab, 1).locator("a.mention").count() == 2
    assert tab.evaluate("window.early"), "the framework's button came later"


def let_go(tab: Any, held: list[Any]) -> None:
    while not held:
        tab.wait_for_timeout(50)
    for route in held:
        route.continue_()
    tab.unroute(ANSWERS)


def test_web_page_refused_message_keeps_what_was_typed_since(tab: Any) -> None:
    held: list[Any] = []
    tab.route(ANSWERS, lambda route: held.append(route))
    tab.fill(MESSAGE, "Norah Jones plays in Rotterdam")
    tab.evaluate("picture = 'x'.repeat(30)")  # a name that the server never gave
    tab.press(MESSAGE, "Enter")
    tab.fill(MESSAGE, "help")
    let_go(tab, held)
    assert "no longer stored" in problem_of(tab)
    assert tab.input_value(MESSAGE) == "Norah Jones plays in Rotterdam\nhelp"


def test_web_page_message_whose_connection_breaks_comes_back_into_its_field(tab: Any) -> None:
    give_picture(tab)
    tab.route(ANSWERS, lambda route: route.abort(), times=1)
    tab.route("**/page/answering", lambda route: route.abort(), times=2)
    for problem in ("The server cannot be reached.", "The connection broke."):
        tab.fill(MESSAGE, "Norah Jones plays in Rotterdam")
        tab.press(MESSAGE, "Enter")
        assert problem_of(tab).startswith(problem)
        assert tab.input_value(MESSAGE) == "Norah Jones plays in Rotterdam"
        assert tab.locator("#np-thumb").evaluate("one => one.decode().then(() => one.naturalWidth)")
    before = tab.locator("#np-past .np-turn").count()
    tab.press(MESSAGE, "Enter")
    assert answer(tab, before + 1).locator("a.mention").count() == 2
