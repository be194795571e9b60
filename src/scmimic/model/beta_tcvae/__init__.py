"""BetaTCVAE: networks and loss, training plan, and the model that users have."""
