/* node_notify.h -- tells the service manager how the node is: one datagram to the socket that NOTIFY_SOCKET names, as
 * sd_notify(3) describes the protocol. Without that variable, as in a shell or a container, nothing happens. */
#ifndef TERN_BROKER_NODE_NOTIFY_H
#define TERN_BROKER_NODE_NOTIFY_H

void node_notify_ready(void);     /* clients can come; also behind a reload */
void node_notify_reloading(void); /* before the configuration is read again */
void node_notify_stopping(void);

#endif
