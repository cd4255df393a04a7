"""Sites, profiles, series, scenarios and countries that ship with the package."""
