"""How the house is run: local stack, migrations, container image, decisions."""
