//! What the CA knows of its fleets and devices, and what may happen to them.
//!
//! **Pure.** `device` has the states and their transitions, `fleet` the policies, `lineage` the decision whether a
//! certificate may renew, `partition` which issuing CA signs, `quota` how many devices a fleet may have and enroll,
//! `unknown` what becomes of devices that nobody registered.

pub mod device;
pub mod fleet;
pub mod lineage;
pub mod partition;
pub mod quota;
pub mod unknown;
