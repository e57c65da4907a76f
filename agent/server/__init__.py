"""The server: a REST surface for applications and the page for people, behind one set of doors."""
