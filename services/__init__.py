"""The rooms of the house, one package each; a room imports shared and no other room."""
