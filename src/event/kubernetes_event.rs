//! Kubernetes Event objects as events.
