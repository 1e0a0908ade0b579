"""The door for published clients of OpenAI, under /openai/v1/."""
