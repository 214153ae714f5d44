"""The rules that keep a ring of donors right, without sockets, clocks or tensors.

A session travels around a ring: the client sends the prompt's token ids to the entry in chunks, each
stage runs them and forwards its outputs to the next, the tail draws a token, tells the client, and
sends it to the entry as the next step. ``Part`` is one stage's part of one session, ``Client`` the
reader's side. Both are fed messages and return actions; who carries them is not their business.

What holds, whatever the network does:

* A frame of another *epoch* is dropped. The client alone raises the epoch, and resumes when every
  stage has acknowledged it, telling it what it holds: positions run, and from where its log goes.
* A stage keeps a *log* of its outputs. When the next stage is replaced, the log is replayed straight
  into the replacement, as ordinary steps: all is computed and logged there, and only what its own
  successor lacks is sent on (*emit from*).
* *Hop* numbers count the frames between two neighbours, per lane, from 0 in each epoch, without gaps:
  one already seen is dropped, a gap ends the stage's part.
* Only a higher *rollback* count truncates; a frame with a lower one is skipped; a start beyond the
  cache's end is refused.
* A receiver acknowledges *received* at once and *run* later; at most ``BULK_WINDOW`` prefill chunks
  of a session are unrun between two neighbours.
* The tail may *propose* the tokens that follow the one it drew; they travel as one step and are judged
  when it comes around: one is accepted if and only if it equals the token drawn at its position. What
  follows a wrong one is truncated by the tail's own, finer rollback count.
* *Credit* is an absolute position: the tail sends no position into the ring that the client has not
  had reserved at every stage.
* Two steps of one session are never under way at once.

Positions are absolute: position p is the p-th token of the session. Running position p - 1 yields the
distribution that token p is drawn from.
"""
