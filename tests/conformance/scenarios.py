"""The Go client's own integration scenarios, and what shows that this package behaves the same.

The 107 tests are those of containerd's integration/client, numbered in the order of its files. Each has here an area,
the tests of ours that restate it, and a reason where there is none, or where ours shows less or something else.

To add one: put the test's path below tests/ and its name, `"conformance/test_tasks.py::test_wait"`, into the entry of
its number. A test that exists elsewhere is named, not written again. Parameters are left out: all of them count. The
tests of a number must cover all containerd lines among them (a test marked `lines` covers those); else the entry needs
a reason. `test_scenarios.py` holds the table to that.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

Area = Literal[
    "connection", "images", "content", "containers", "tasks", "processes", "io", "checkpoint", "leases", "snapshots",
    "events", "transfer", "daemon",
]  # fmt: skip
TTRPC: Final = "the ttrpc endpoint is the shims' own way to the daemon: clients forward events over gRPC"


@attrs.frozen
class Scenario:
    """One test of the Go client and ours in its place."""

    number: int
    name: str
    area: Area
    tests: tuple[str, ...]
    reason: str


def go(number: int, name: str, area: Area, *tests: str, reason: str = "") -> Scenario:
    """Describe one scenario; the tests are given by path below tests/ and name."""
    return Scenario(number=number, name=name, area=area, tests=tests, reason=reason)


SCENARIOS: Final[tuple[Scenario, ...]] = (
    # client_test.go
    go(1, "TestNewClient", "connection", "faults/test_transport_restarts.py::test_after_its_block_a_client_is_closed"),
    go(2, "TestImagePull", "images", "integration/test_pull.py::test_the_same_is_left_as_by_ctr"),
    go(
        3,
        "TestImagePullWithDiscardContent",
        "images",
        "integration/test_import_archives.py::test_layers_can_be_let_go",
        reason="a pull keeps its layers, for pushes and exports; imports can let them go",
    ),
    go(
        4,
        "TestImagePullAllPlatforms",
        "images",
        "integration/test_pull.py::test_all_platforms_are_fetched_and_not_unpacked",
    ),
    go(
        5,
        "TestImagePullSomePlatforms",
        "images",
        "integration/test_pull.py::test_another_platform_is_unpacked_as_well",
        "integration/test_manage.py::test_platforms_are_left_out",
        reason="a pull is of one platform or of all; a copy of some is made by converting",
    ),
    go(
        6,
        "TestImagePullWithConcurrencyLimit",
        "images",
        "integration/test_pull.py::test_progress_tells_everything",
        reason="how many blobs are fetched at once is no option: it is bounded in every pull",
    ),
    go(7, "TestImagePullWithTracing", "images", reason="this package makes no trace spans"),
    go(
        8,
        "TestImagePullWithConcurrentUnpacks",
        "images",
        "conformance/test_images.py::test_images_of_the_same_layers_are_pulled_at_once",
        "integration/test_pull.py::test_pulls_next_to_each_other_all_succeed",
    ),
    go(
        9,
        "TestClientReconnect",
        "connection",
        "faults/test_transport_restarts.py::test_reads_outlast_a_restart_of_the_daemon",
    ),
    go(
        10,
        "TestDefaultRuntimeWithNamespaceLabels",
        "connection",
        "conformance/test_containers.py::test_a_namespace_chooses_the_runtime",
    ),
    go(
        11,
        "TestRuntimeInfo",
        "connection",
        "integration/test_introspection.py::test_a_runtime_tells_its_features",
        reason="containerd can be asked that from 2.0 on",
    ),
    # client_ttrpc_test.go
    go(12, "TestClientTTRPC_New", "connection", reason=TTRPC),
    go(13, "TestClientTTRPC_Reconnect", "connection", reason=TTRPC),
    go(14, "TestClientTTRPC_Close", "connection", reason=TTRPC),
    # client_unix_test.go
    go(
        15,
        "TestNewTaskWithRuntimeOption",
        "tasks",
        "conformance/test_shims.py::test_options_reach_the_runtime",
        reason="a task's options stand for the container's, all of them: whoever wants a few changed changes a copy",
    ),
    # container_checkpoint_test.go
    go(
        16,
        "TestCheckpointRestorePTY",
        "checkpoint",
        "conformance/test_terminals.py::test_a_terminal_goes_on_after_a_restore",
    ),
    go(
        17,
        "TestCheckpointRestore",
        "checkpoint",
        "integration/test_checkpoint.py::test_a_container_goes_on_from_its_checkpoint",
    ),
    go(
        18,
        "TestCheckpointRestoreNewContainer",
        "checkpoint",
        "integration/test_checkpoint.py::test_a_container_goes_on_from_its_checkpoint",
    ),
    go(
        19,
        "TestCheckpointLeaveRunning",
        "checkpoint",
        "integration/test_checkpoint.py::test_a_task_runs_on_after_its_checkpoint",
    ),
    go(
        20,
        "TestCheckpointRestoreWithImagePath",
        "checkpoint",
        "integration/test_checkpoint.py::test_a_checkpoint_in_a_folder",
        reason="a folder of criu's own makes no difference between the lines",
    ),
    go(
        21,
        "TestCheckpointOnPauseStatus",
        "checkpoint",
        "integration/test_checkpoint.py::test_a_task_runs_on_after_its_checkpoint",
    ),
    # container_idmapped_linux_test.go
    go(
        22,
        "TestIDMappedOverlay",
        "snapshots",
        "integration/test_user_namespaces.py::test_the_copy_is_shared_and_collected",
        "integration/test_user_namespaces.py::test_multiple_ranges",
    ),
    # container_linux_test.go
    go(23, "TestTaskUpdate", "tasks", "integration/test_containers.py::test_metrics_and_limits"),
    go(24, "TestShimInCgroup", "tasks", "conformance/test_shims.py::test_a_shim_may_live_in_a_cgroup"),
    go(25, "TestShimDoesNotLeakPipes", "tasks", "conformance/test_shims.py::test_nothing_of_a_shim_stays"),
    go(26, "TestShimDoesNotLeakSockets", "tasks", "conformance/test_shims.py::test_nothing_of_a_shim_stays"),
    go(
        27,
        "TestDaemonReconnectsToShimIOPipesOnRestart",
        "tasks",
        "conformance/test_shims.py::test_a_daemon_that_was_killed_finds_its_shims",
    ),
    go(
        28,
        "TestContainerAttach",
        "io",
        "integration/test_cio_shims.py::test_another_reader_goes_on_where_the_first_one_left",
    ),
    go(
        29,
        "TestContainerUser",
        "containers",
        "conformance/test_containers.py::test_users_and_groups_by_name_and_number",
    ),
    go(30, "TestContainerAttachProcess", "io", "conformance/test_processes.py::test_an_exec_is_attached_to_by_its_id"),
    go(
        31,
        "TestContainerLoadUnexistingProcess",
        "processes",
        "conformance/test_processes.py::test_an_exec_that_is_not_there",
    ),
    go(32, "TestContainerUserID", "containers", "conformance/test_containers.py::test_a_user_alone_brings_its_group"),
    go(33, "TestContainerKillAll", "tasks", "conformance/test_tasks.py::test_who_kills_the_first_kills_its_children"),
    go(
        34,
        "TestDaemonRestartWithRunningShim",
        "tasks",
        "conformance/test_shims.py::test_a_daemon_that_was_killed_finds_its_shims",
        "faults/test_container_faults.py::test_a_wait_survives_a_restart",
    ),
    go(35, "TestContainerRuntimeOptionsv2", "containers", "conformance/test_shims.py::test_options_reach_the_runtime"),
    go(
        36,
        "TestContainerKillInitPidHost",
        "tasks",
        "conformance/test_tasks.py::test_who_kills_the_first_kills_its_children",
    ),
    go(
        37,
        "TestUserNamespaces",
        "containers",
        "integration/test_user_namespaces.py::test_root_is_somebody_else",
        "integration/test_user_namespaces.py::test_multiple_ranges",
    ),
    go(38, "TestUIDNoGID", "containers", "conformance/test_containers.py::test_a_user_alone_brings_its_group"),
    go(39, "TestBindLowPortNonRoot", "containers", "conformance/test_containers.py::test_low_ports_are_for_who_may"),
    go(
        40,
        "TestBindLowPortNonOpt",
        "containers",
        "conformance/test_containers.py::test_low_ports_are_for_who_may",
        reason="SIGKILL ends it: a namespace's first process ignores a SIGTERM that it does not handle",
    ),
    go(41, "TestShimOOMScore", "tasks", "conformance/test_shims.py::test_a_shim_is_killed_after_the_daemon"),
    go(42, "TestIssue9103", "tasks", "conformance/test_tasks.py::test_a_task_killed_before_its_start_is_no_riddle"),
    go(
        43,
        "TestIssue10589",
        "processes",
        "conformance/test_shims.py::test_execs_that_are_just_starting_end_with_the_task",
    ),
    go(
        44,
        "TestIssue13030",
        "images",
        "conformance/test_containers.py::test_what_a_layer_deletes_is_not_there",
        "integration/test_rootfs_kernel.py::test_layers_look_as_overlayfs_shows_them",
    ),
    # container_test.go
    go(45, "TestContainerList", "containers", "conformance/test_containers.py::test_a_new_namespace_has_no_containers"),
    go(
        46,
        "TestNewContainer",
        "containers",
        "integration/test_containers.py::test_a_container_is_a_record_a_snapshot_and_a_spec",
    ),
    go(47, "TestContainerStart", "tasks", "conformance/test_tasks.py::test_the_code_of_a_task_is_told_twice"),
    go(
        48,
        "TestContainerStartWithAbsRuntimePath",
        "tasks",
        "conformance/test_shims.py::test_another_shim_binary_is_used",
    ),
    go(49, "TestContainerOutput", "io", "integration/test_run.py::test_output_and_exit_code_are_exact"),
    go(50, "TestContainerWait", "tasks", "conformance/test_tasks.py::test_who_waits_no_longer_disturbs_nobody"),
    go(51, "TestContainerExec", "processes", "conformance/test_processes.py::test_the_code_of_an_exec_is_told_twice"),
    go(52, "TestContainerLargeExecArgs", "processes", "conformance/test_processes.py::test_an_argument_may_be_long"),
    go(53, "TestContainerPids", "tasks", "conformance/test_tasks.py::test_all_processes_are_listed"),
    go(54, "TestContainerCloseIO", "io", "integration/test_run.py::test_open_run_streams_both_ways"),
    go(
        55,
        "TestDeleteRunningContainer",
        "containers",
        "integration/test_containers.py::test_a_container_with_a_task_is_not_deleted",
    ),
    go(56, "TestContainerKill", "tasks", "conformance/test_tasks.py::test_who_waits_no_longer_disturbs_nobody"),
    go(
        57,
        "TestKillContainerDeletedByRunc",
        "tasks",
        "conformance/test_shims.py::test_a_container_deleted_behind_the_daemon",
    ),
    go(58, "TestContainerNoBinaryExists", "tasks", "integration/test_run.py::test_a_missing_command_is_said_by_name"),
    go(
        59,
        "TestContainerExecNoBinaryExists",
        "processes",
        "conformance/test_processes.py::test_an_exec_that_cannot_start_says_so",
        "integration/test_containers.py::test_exec_of_a_missing_command_leaves_nothing",
    ),
    go(60, "TestWaitStoppedTask", "tasks", "integration/test_run.py::test_many_waiters_learn_the_same"),
    go(
        61,
        "TestWaitStoppedProcess",
        "processes",
        "conformance/test_processes.py::test_an_exec_that_has_ended_is_waited_for",
    ),
    go(62, "TestTaskForceDelete", "tasks", "conformance/test_tasks.py::test_a_running_task_is_deleted_by_force_only"),
    go(
        63,
        "TestProcessForceDelete",
        "processes",
        "conformance/test_processes.py::test_an_exec_that_runs_is_deleted_by_force_only",
    ),
    go(
        64,
        "TestContainerHostname",
        "containers",
        "conformance/test_containers.py::test_a_host_name_is_chosen_and_changed",
    ),
    go(65, "TestContainerExitedAtSet", "tasks", "conformance/test_tasks.py::test_the_end_comes_after_the_beginning"),
    go(
        66,
        "TestDeleteContainerExecCreated",
        "processes",
        "conformance/test_processes.py::test_an_exec_never_started_is_deleted",
    ),
    go(67, "TestContainerMetrics", "tasks", "integration/test_containers.py::test_metrics_and_limits"),
    go(
        68,
        "TestDeletedContainerMetrics",
        "tasks",
        "conformance/test_tasks.py::test_a_running_task_is_deleted_by_force_only",
    ),
    go(
        69,
        "TestContainerExtensions",
        "containers",
        "conformance/test_containers.py::test_extensions_are_kept_for_their_owners",
    ),
    go(
        70,
        "TestContainerUpdate",
        "containers",
        "conformance/test_containers.py::test_a_host_name_is_chosen_and_changed",
    ),
    go(71, "TestContainerInfo", "containers", "conformance/test_containers.py::test_the_record_is_what_was_created"),
    go(
        72,
        "TestContainerLabels",
        "containers",
        "conformance/test_containers.py::test_the_record_is_what_was_created",
        "integration/test_containers.py::test_labels_and_updates",
    ),
    go(73, "TestContainerHook", "containers", "conformance/test_containers.py::test_hooks_run_in_their_places"),
    go(74, "TestShimSockLength", "tasks", "conformance/test_shims.py::test_names_may_be_as_long_as_they_can"),
    go(
        75,
        "TestContainerExecLargeOutputWithTTY",
        "io",
        "conformance/test_terminals.py::test_large_output_of_terminals_is_whole",
    ),
    go(76, "TestShortRunningTaskPid", "tasks", "conformance/test_tasks.py::test_a_process_that_ends_at_once_had_an_id"),
    go(77, "TestRegressionIssue4769", "events", "conformance/test_events.py::test_an_exit_is_told_once"),
    go(78, "TestRegressionIssue6429", "events", "conformance/test_events.py::test_what_never_ran_has_no_exit"),
    go(79, "TestDaemonRestart", "tasks", "faults/test_container_faults.py::test_a_wait_survives_a_restart"),
    go(
        80,
        "TestContainerKillInitKillsChildWhenNotHostPid",
        "tasks",
        "conformance/test_tasks.py::test_who_kills_the_first_kills_its_children",
    ),
    go(81, "TestTaskResize", "io", "conformance/test_terminals.py::test_a_terminal_is_sized_before_it_starts"),
    go(82, "TestContainerImage", "containers", "conformance/test_containers.py::test_a_container_knows_its_image"),
    go(83, "TestContainerNoImage", "containers", "conformance/test_containers.py::test_the_record_is_what_was_created"),
    go(84, "TestContainerNoSTDIN", "io", "integration/test_cio_shims.py::test_any_choice_of_streams_works"),
    go(85, "TestTaskSpec", "tasks", "conformance/test_tasks.py::test_a_task_tells_the_spec_it_runs_with"),
    go(
        86,
        "TestContainerUsername",
        "containers",
        "conformance/test_containers.py::test_users_and_groups_by_name_and_number",
    ),
    go(87, "TestContainerPTY", "io", "integration/test_run.py::test_a_terminal_is_one"),
    # content_test.go, convert_test.go, daemon_config_linux_test.go
    go(
        88,
        "TestContentClient",
        "content",
        "conformance/test_content.py::test_writers_do_not_disturb_each_other",
        "conformance/test_content.py::test_an_ingest_tells_how_far_it_is",
        "conformance/test_content.py::test_what_is_there_is_not_written_again",
        "conformance/test_content.py::test_an_ingest_is_resumed",
        "conformance/test_content.py::test_a_blob_may_be_small",
        "conformance/test_content.py::test_a_blob_is_read_in_part",
        "conformance/test_content.py::test_labels_are_set_replaced_and_removed",
        "conformance/test_content.py::test_a_wrong_promise_is_refused",
    ),
    go(89, "TestConvert", "images", "integration/test_manage.py::test_conversion_is_what_ctr_makes"),
    go(90, "TestDaemonRuntimeRoot", "daemon", "integration/test_runtime_options.py::test_a_runtime_of_ones_own"),
    go(
        91,
        "TestDaemonCustomCgroup",
        "daemon",
        reason="where a daemon puts itself is its own configuration: no client takes part in it",
    ),
    # export_test.go, image_test.go, import_test.go
    go(
        92,
        "TestExportAllCases",
        "images",
        "conformance/test_images.py::test_an_image_named_by_digest_is_exported_under_a_valid_name",
        "conformance/test_images.py::test_an_index_without_what_it_names_is_exported_alone",
        "integration/test_archives.py::test_an_index_keeps_what_was_exported",
        "integration/test_export_archives.py::test_docker_manifest_can_be_left_out",
        "integration/test_export_archives.py::test_platforms_are_chosen",
        "integration/test_export_archives.py::test_what_is_missing_fails_or_is_skipped",
    ),
    go(93, "TestImageIsUnpacked", "images", "integration/test_pull.py::test_without_unpacking"),
    go(94, "TestImagePullWithDistSourceLabel", "images", "integration/test_pull.py::test_the_same_is_left_as_by_ctr"),
    go(95, "TestImageUsage", "images", "integration/test_image.py::test_sizes"),
    go(
        96,
        "TestImageSupportedBySnapshotter_Error",
        "images",
        "integration/test_pull.py::test_another_platform_is_unpacked_as_well",
        reason="a check that the Go client makes when asked; here a foreign platform is unpacked like any other",
    ),
    go(
        97, "TestExportAndImport", "images", "integration/test_archives.py::test_what_was_exported_is_imported_and_runs"
    ),
    go(
        98,
        "TestExportAndImportMultiLayer",
        "images",
        "integration/test_archives.py::test_what_was_exported_is_imported_and_runs",
    ),
    go(
        99,
        "TestImport",
        "images",
        "integration/test_import_archives.py::test_missing_content_can_be_skipped",
        "integration/test_import_archives.py::test_names_can_be_chosen",
        "integration/test_import_archives.py::test_names_come_from_annotations",
        "integration/test_import_archives.py::test_we_take_what_ctr_takes",
        "integration/test_import_archives.py::test_what_is_refused_leaves_nothing",
    ),
    go(
        100,
        "TestTransferImport",
        "transfer",
        "conformance/test_transfers.py::test_imports_give_the_names_they_are_asked_for",
        reason="containerd 1.6 transfers nothing",
    ),
    # others
    go(
        101,
        "TestLeaseResources",
        "leases",
        "conformance/test_leases.py::test_a_lease_keeps_what_it_names_alone",
        "conformance/test_leases.py::test_a_lease_of_content_keeps_what_that_refers_to",
    ),
    go(
        102,
        "TestMigration",
        "daemon",
        reason="a command of the daemon's own binary, not of its API",
    ),
    go(
        103,
        "TestMountManager",
        "snapshots",
        reason="the mount manager came with containerd 2.2; no line that is supported here has it",
    ),
    go(
        104,
        "TestMountAtRuntime",
        "snapshots",
        reason="the mount manager came with containerd 2.2; no line that is supported here has it",
    ),
    go(
        105,
        "TestRestartMonitor",
        "tasks",
        "integration/test_restarts.py::test_it_runs_again_until_it_is_stopped",
        "integration/test_restarts.py::test_on_failure_counts",
    ),
    go(
        106,
        "TestSnapshotterClient",
        "snapshots",
        "conformance/test_snapshots.py::test_a_child_sees_what_was_changed_last",
        "conformance/test_snapshots.py::test_a_view_is_not_written_to",
        "conformance/test_snapshots.py::test_kinds_and_parents_are_told",
        "conformance/test_snapshots.py::test_labels_change_and_times_move",
        "conformance/test_snapshots.py::test_many_layers_are_mounted",
        "conformance/test_snapshots.py::test_only_what_is_committed_is_stood_on",
        "conformance/test_snapshots.py::test_owners_and_modes_are_kept",
        "conformance/test_snapshots.py::test_usage_grows_with_what_is_written",
        "conformance/test_snapshots.py::test_what_others_stand_on_is_not_removed",
    ),
    go(
        107,
        "TestTransferEcho",
        "transfer",
        "conformance/test_transfers.py::test_bytes_come_back_as_they_went",
        reason="containerd 1.6 transfers nothing",
    ),
)
