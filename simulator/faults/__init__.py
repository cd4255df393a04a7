"""What goes wrong at an island, as data: an alphabet, seeded schedules, and the layers that carry a schedule out."""
