//! The Python module procession._native.
