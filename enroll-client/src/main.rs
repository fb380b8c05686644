//! The binary `enroll-client`: a thin shell around the library.

fn main() {}
