"""The GANs: networks, training plan, and the models that users have."""
