"""What `deploy/rehearse.py` is made of: the stage, the visitors, and the book of what they were answered."""
