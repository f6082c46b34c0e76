//! Changes on a table that somebody else may have changed, too.
//!
//! **Invariant:** what the changes ask for is so afterwards, as far as the rules of the table allow.
//!
//! Part of the node.

use elvs_model::{Change, ChangeError, Table};

/// Makes a configuration's changes on a table that `ipvsadm` may have changed too: what is there already is edited,
/// what is gone already is left. Answers the changes that met something else than expected.
pub(super) fn merge<'a>(
    table: &mut Table,
    changes: &'a [Change],
) -> Vec<(&'a Change, ChangeError)> {
    let mut met = Vec::new();
    for change in changes {
        let Err(error) = table.apply(change) else { continue };
        let instead = match (change, &error) {
            (Change::AddService(service), ChangeError::ServiceExists) => {
                Some(Change::EditService(service.clone()))
            }
            (Change::EditService(service), ChangeError::NoSuchService) => {
                Some(Change::AddService(service.clone()))
            }
            (Change::AddDestination { service, destination }, ChangeError::DestinationExists) => {
                Some(Change::EditDestination { service: *service, destination: *destination })
            }
            (Change::EditDestination { service, destination }, ChangeError::NoSuchDestination) => {
                Some(Change::AddDestination { service: *service, destination: *destination })
            }
            (_, _) => None,
        };
        if let Some(instead) = instead
            && let Err(error) = table.apply(&instead)
        {
            met.push((change, error));
            continue;
        }
        met.push((change, error));
    }
    met
}
