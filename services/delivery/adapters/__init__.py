"""The broker behind the ports of delivery."""
