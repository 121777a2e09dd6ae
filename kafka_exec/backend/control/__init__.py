"""Commands of the result back end to the control plane, and the messages by which its decisions are carried out."""
