"""Raw files become interactions and tables, those become parts, and parts become integer rows. No model, no batch."""
