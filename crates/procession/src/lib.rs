//! Launches fleets of processes anywhere and never loses track of one.
