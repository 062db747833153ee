//! Carries out the plan: [`open`] in the runtime before the clone, the rest in init.

mod added;
mod attach;
mod cgroup;
mod console;
mod copy;
mod device;
mod examine;
mod fresh;
mod id_map;
mod inherited;
mod mask;
mod pivot;
mod provide;
mod provided;
mod source;
mod target;
mod trail;

pub use added::{detach, remove_node};
pub use attach::mounts;
pub use console::console;
pub use examine::examine;
pub use inherited::{Inherited, open};
pub use mask::finish;
pub use pivot::{chdir_to_root, pivot, withdraw};
pub use provide::{ProviderNamespaces, provide};
