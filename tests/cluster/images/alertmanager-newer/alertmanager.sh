for argument; do
  shift
  case "$argument" in --cluster.label=*) ;; *) set -- "$@" "$argument" ;; esac
done
exec prometheus-alertmanager "$@"
