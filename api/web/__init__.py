"""The one door for people and programs: REST, the stream of live values, and the page."""
