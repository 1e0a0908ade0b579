"""The small trained models that ship with the project, with their data, training and judge."""
