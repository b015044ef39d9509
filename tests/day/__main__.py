"""`python -m tests.day`: play a day; the exit code is 1 when something is missing, doubled, untold or grows."""

from tests.day.run import main

main()
