"""The program without its faces: model, swarm, serving, routing, node."""
