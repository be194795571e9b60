"""What all models share: registration, training, saving; and what the autoencoders do."""
