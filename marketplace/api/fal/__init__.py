"""The door for published clients of fal, under /fal/run, /fal/queue, /fal/rest and /fal/cdn."""
