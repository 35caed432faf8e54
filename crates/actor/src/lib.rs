//! Actors, mailboxes and ports of one process, without a network.
