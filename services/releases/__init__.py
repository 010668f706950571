"""Models, releases and their canaries: which model answers a workload, decided on evidence."""
