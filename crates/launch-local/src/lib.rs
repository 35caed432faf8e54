//! The native launcher and its keeper, the parent and subreaper of native procs.
