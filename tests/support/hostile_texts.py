"""Texts that run `pwn()` or load something where a page takes them for markup, and results that hold them."""

from namepin.agent.render.view import PostView
from namepin.tools.types import Notice
from support.agent_samples import placed, post_view

PAYLOADS = [
    "<script>pwn()</script>",
    "<ScRiPt >pwn()</ScRiPt >",
    "<img src=x onerror=pwn()>",
    "<svg/onload=pwn()>",
    '"><svg onload=pwn()>',
    "' onmouseover='pwn()",
    '" autofocus onfocus="pwn()',
    "</script><script>pwn()</script>",
    "</style><script>pwn()</script>",
    "</textarea></title><script>pwn()</script>",
    "<!--><script>pwn()</script>",
    "--><script>pwn()</script>",
    "]]><script>pwn()</script>",
    "javascript:pwn()",
    "[x](javascript:pwn())",
    '<a href="javascript:pwn()">x</a>',
    "<iframe srcdoc='<script>pwn()</script>'></iframe>",
    "<object data=javascript:pwn()>",
    "<base href=//pwn.example>",
    "<form action=//pwn.example><button>x</button></form>",
    "<meta http-equiv=refresh content=0;url=//pwn.example>",
    "<link rel=stylesheet href=//pwn.example>",
    "{{pwn}}{%raw%}{{config}}",
    "${pwn()}`${pwn()}`",
    "&lt;script&gt;pwn()&lt;/script&gt;",
    "\u2028<script>pwn()</script>",
    "<\u0000script>pwn()</script>",
    "\ufeff<pwn-element>",
]


def item_of(payload: str) -> PostView:
    """A result with the text in every field that a stranger or a tool fills."""
    text = f"Ada {payload} Example"
    return post_view(
        text,
        placed(text, "Ada", (10.0, 10.0, 90.0, 90.0), evidence=payload, expression=payload, scores={payload: 1.0}),
        id=payload,
        warnings=(Notice(code="W103", tool=payload, message=payload),),
        extra={payload: payload},
    )
