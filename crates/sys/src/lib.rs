//! The kernel's calls, made safe: every unsafe line lives here.
