"""ACTIVA: networks and losses, training plan, and the model that users have."""
