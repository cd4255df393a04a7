"""The routes, one file for each thing a visitor wants: to read, to order, to sign in, to listen."""
