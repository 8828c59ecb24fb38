"""The edge that serves: the replica, the executor, the app builder, the front door."""
