-- Rows and the rule for duplicates are appended.
INSERT INTO messages (did, queue, state, prio, position, payload) VALUES