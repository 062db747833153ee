//! Whether programs do what profiles say: by a model of the profile, by libseccomp, by the kernel.

#![allow(clippy::too_many_lines, reason = "tests are tables")]

#[cfg(test)]
mod differential;
#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod measure;
#[cfg(test)]
mod model;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod profiles;
