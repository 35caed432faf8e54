//! Where the parts meet: the host that launches and supervises procs, and the bootstrap of a child.
