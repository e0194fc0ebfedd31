"""Learning in real time: the acting side, which keeps a robot's control rate, and its memory with learning.

                      weights, by version (two slots)
    learning process ---------------------------------> acting process --> robot
                     <---------------------------------
                      decisions, numbered and checksummed (a ring)

The acting process owns the environment, the exploration noise and the clock; the learning process owns
replay, gradient updates, checkpoints and the journal. Neither waits for the other within an episode.
"""
