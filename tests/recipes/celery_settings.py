"""A broker for Celery that is a folder."""

import os

broker_url = 'filesystem://'
broker_transport_options = {
    'data_folder_in': os.environ['BROKER_FOLDER'],
    'data_folder_out': os.environ['BROKER_FOLDER'],
    'control_folder': os.environ['BROKER_FOLDER'],
}
worker_proc_alive_timeout = 120.0
worker_hijack_root_logger = False
worker_enable_remote_control = False
