"""One operation in the five documented forms; a module for each form.

Each has ``from_facts`` and ``from_record``, which make the form; ``to_json``, which gives the very
JSON that the form's vendor shows; ``to_operation``, which goes back as far as the form can carry
it; and ``LOST``, which tells what it cannot.
"""
