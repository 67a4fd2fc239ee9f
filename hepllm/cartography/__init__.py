"""What the dynamics of a training tell about its events: maps, clusters, filters and flags."""
