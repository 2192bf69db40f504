"""Client programs that run in a Pod: standard library, python3-psycopg2 and python3-redis only."""
