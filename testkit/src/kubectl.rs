//! kubectl as a child process.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

/// One kubectl against one kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Kubectl {
    /// Commands go to this namespace.
    pub fn new(program: impl Into<PathBuf>, kubeconfig: impl Into<PathBuf>, namespace: &str) -> Self {
        Self { program: program.into(), kubeconfig: kubeconfig.into(), namespace: namespace.to_owned() }
    }

    /// The same kubectl in another namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// The namespace that commands go to.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The kubeconfig in use.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A command that has not been started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--namespace", &self.namespace]).args(args);
        command
    }

    /// Runs to the end, whatever comes out.
    ///
    /// # Errors
    /// When kubectl cannot be started.
    pub fn output(&self, args: &[&str], stdin: &str) -> Result<Output> {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        child.stdin.take().context("stdin is piped")?.write_all(stdin.as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    /// Runs and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        self.run_with(args, "")
    }

    /// Runs with standard input.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn run_with(&self, args: &[&str], stdin: &str) -> Result<String> {
        let output = self.output(args, stdin)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {} failed: {}", args.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs and expects a failure; returns what it said.
    ///
    /// # Errors
    /// When it succeeds.
    pub fn fails(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args, "")?;
        if output.status.success() {
            bail!("kubectl {} succeeded", args.join(" "));
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs and fails unless the output has this text.
    ///
    /// # Errors
    /// When it fails or the text is missing.
    pub fn shows(&self, args: &[&str], text: &str) -> Result<String> {
        let shown = self.run(args)?;
        ensure!(shown.contains(text), "kubectl {} does not show {text:?}:\n{shown}", args.join(" "));
        Ok(shown)
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.run_with(&["apply", "-f", "-"], manifest)
    }

    /// Reads one field with a JSON path.
    ///
    /// # Errors
    /// When the object is not there.
    pub fn field(&self, object: &str, path: &str) -> Result<String> {
        self.run(&["get", object, "-o", &format!("jsonpath={path}")])
    }

    /// Starts in the background. The child is killed when the guard is dropped.
    ///
    /// # Errors
    /// When kubectl cannot be started.
    pub fn start(&self, args: &[&str]) -> Result<Running> {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Running(command.spawn()?))
    }
}

/// A kubectl that runs beside the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
