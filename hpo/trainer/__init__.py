"""The template process, the trainers forked from it, and the pool that supervises them."""
