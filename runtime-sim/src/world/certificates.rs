//! Issuers and trust anchors are replaced, as an operator does it: new files are made aside, then put
//! into the controllers' state, which they follow.
//!
//! Law: all controllers are given the same files, and what is put in place was made by the code that
//! makes an installation's own.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use mesh_core::control::state;

use crate::files::MemoryFiles;
use crate::topology::Role;

use super::scenario::RotationStep;
use super::{Simulator, World, mesh};

/// Where the operator makes files.
const OPERATOR: &str = "/operator";

impl<S: Simulator> World<S> {
    /// Gives the first controller an authority whose lifetimes the scenario says. Its anchor's key
    /// stays with the operator, so that the control plane cannot renew its issuer by itself; else it
    /// makes all of it.
    pub(super) fn give_authority(&mut self) -> Result<(), String> {
        if (self.lifetimes.anchor, self.lifetimes.issuer) == (None, None) {
            return Ok(());
        }
        let files = self.control_plane_files();
        let aside = self.new_directory();
        self.make_authority(&aside)?;
        copy(&files[0], &aside.join(state::ANCHORS), &mesh::state_file(state::ANCHORS))?;
        put_issuer(&files[..1], &aside)?;
        self.anchor_kept = Some(aside);
        Ok(())
    }

    /// Gives the control plane a new issuer below the anchor in force.
    pub(super) fn rotate_issuer(&mut self) -> Result<(), String> {
        let files = self.control_plane_files();
        let aside = self.new_directory();
        for file in [state::ANCHORS, state::ANCHOR_KEY] {
            let from = match &self.anchor_kept {
                Some(kept) => kept.join(file),
                None => mesh::state_file(file),
            };
            copy(&files[0], &from, &aside.join(file))?;
        }
        self.make_authority(&aside)?;
        put_issuer(&files, &aside)
    }

    /// A step of replacing the trust anchor.
    pub(super) fn rotate_anchor(&mut self, step: RotationStep) -> Result<(), String> {
        let files = self.control_plane_files();
        let anchors = match (step, &self.new_anchor) {
            (RotationStep::Add, _) => {
                let aside = self.new_directory();
                self.make_authority(&aside)?;
                let added = text(&files[0], &aside.join(state::ANCHORS))?;
                self.new_anchor = Some(aside);
                format!("{}{added}", text(&files[0], &mesh::state_file(state::ANCHORS))?)
            }
            (RotationStep::Switch, Some(aside)) => return put_issuer(&files, aside),
            (RotationStep::Remove, Some(aside)) => {
                let (key, aside) = (aside.join(state::ANCHOR_KEY), aside.clone());
                match &mut self.anchor_kept {
                    Some(kept) => kept.clone_from(&aside),
                    None => {
                        let place = mesh::state_file(state::ANCHOR_KEY);
                        for of in &files {
                            copy_between((&files[0], &key), (of, &place))?;
                        }
                    }
                }
                text(&files[0], &aside.join(state::ANCHORS))?
            }
            (_, None) => return Err("no trust anchor was added before this step".to_owned()),
        };
        for of in &files {
            of.put(mesh::state_file(state::ANCHORS), anchors.as_bytes());
        }
        self.trust_anchors = anchors;
        Ok(())
    }

    fn new_directory(&mut self) -> PathBuf {
        self.rotations += 1;
        Path::new(OPERATOR).join(self.rotations.to_string())
    }

    /// Makes what is missing of an authority in a directory of the first controller's host.
    fn make_authority(&self, directory: &Path) -> Result<(), String> {
        let operator = self.simulator.start(self.control_plane_hosts()[0], "operator", Role::App);
        let usual = state::Lifetimes::default();
        let lifetimes = state::Lifetimes {
            anchor: self.lifetimes.anchor.map_or(usual.anchor, |lifetime| lifetime.0),
            issuer: self.lifetimes.issuer.map_or(usual.issuer, |lifetime| lifetime.0),
        };
        let made = pin!(state::authority_of(&operator, directory, lifetimes));
        // Files in memory keep nobody waiting.
        match made.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(made) => made.map(drop).map_err(|error| error.to_string()),
            Poll::Pending => Err("the operator waits for a file".to_owned()),
        }
    }

    fn control_plane_hosts(&self) -> Vec<usize> {
        self.controllers.iter().map(|controller| controller.host).collect()
    }

    fn control_plane_files(&self) -> Vec<MemoryFiles> {
        let hosts = self.control_plane_hosts().into_iter();
        hosts.map(|host| self.simulator.files(host).clone()).collect()
    }
}

/// Puts an issuer into the state of every controller: its key first, as files come one by one.
fn put_issuer(files: &[MemoryFiles], aside: &Path) -> Result<(), String> {
    for of in files {
        for file in [state::ISSUER_KEY, state::ISSUER] {
            copy_between((&files[0], &aside.join(file)), (of, &mesh::state_file(file)))?;
        }
    }
    Ok(())
}

fn copy(files: &MemoryFiles, from: &Path, to: &Path) -> Result<(), String> {
    copy_between((files, from), (files, to))
}

fn copy_between(
    (from, source): (&MemoryFiles, &Path),
    (to, target): (&MemoryFiles, &Path),
) -> Result<(), String> {
    let content = from.content(source);
    let content = content.ok_or_else(|| format!("there is no {}", source.display()))?;
    to.put(target, &content);
    Ok(())
}

fn text(files: &MemoryFiles, path: &Path) -> Result<String, String> {
    let content = files.content(path).and_then(|content| String::from_utf8(content).ok());
    content.ok_or_else(|| format!("there is no {}", path.display()))
}

#[cfg(test)]
mod tests {
    use mesh_core::wire::tls::validity_of;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::cluster::ApiServer;
    use crate::engine::Engine;
    use crate::trace::{START, Trace};
    use crate::world::parse;

    fn ends_after(pem: &[u8]) -> u64 {
        let der = CertificateDer::from_pem_slice(pem).expect("a certificate");
        let (_, end) = validity_of(&der).expect("a validity");
        end.as_unix_secs() - START.as_unix_secs()
    }

    #[test]
    fn an_operators_authority_lives_as_long_as_the_scenario_says() {
        let text = include_str!("rehearsal.yaml");
        let text = text.replacen("\nspec:", "\nspec:\n  lifetimes: {anchor: 1h, issuer: 10m}", 1);
        let scenario = parse::read("rehearsal.yaml", &text).expect("a scenario");
        let api = ApiServer::default();
        let engine = Engine::new(1, Trace::new(false), api.clone());
        let mut world = World::new(&scenario, 1, engine, api, false).expect("a world");
        let state = |world: &World<Engine>, file| {
            let host = world.controllers[0].host;
            world.simulator.files(host).content(&mesh::state_file(file))
        };
        assert_eq!(ends_after(world.trust_anchors.as_bytes()), 3_600);
        let issuer = state(&world, state::ISSUER).expect("an issuer");
        assert_eq!(ends_after(&issuer), 600);
        assert!(state(&world, state::ANCHOR_KEY).is_none(), "the operator keeps it");
        world.rotate_issuer().expect("an issuer below the same anchor");
        let another = state(&world, state::ISSUER).expect("an issuer");
        assert!(another != issuer && (600..700).contains(&ends_after(&another)));
    }
}
