"""Labels for events that have none, elicited from a language model."""
