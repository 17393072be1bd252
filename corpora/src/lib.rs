//! Labelled mail collections: reading them, making synthetic ones, and
//! measuring filters over them in the way of the TREC spam track.
