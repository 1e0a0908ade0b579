"""The door for published clients of Replicate, under /replicate/v1/."""
