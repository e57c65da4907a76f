"""`namepin doctor`: what can run here, what is missing, and the command that adds it."""

from agent.cli.options import Json, Profile, Set


def doctor(profile: Profile = None, set_: Set = None, json: Json = False) -> int:
    """Check that everything a profile needs is here."""
    return 0
