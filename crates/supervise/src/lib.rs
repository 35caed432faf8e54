//! The brain of the proc manager: one pure state machine, events in, effects out.
